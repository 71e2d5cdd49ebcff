"""Names of columns in four languages, and which of several counts."""

from __future__ import annotations

import pytest

from kerasall.listing.columns import ROLES, find_column, find_columns, plain


@pytest.mark.parametrize(
    ("columns", "path", "label", "subject", "fold"),
    [
        ("path,label,subject,fold", [0], [1], [2], [3]),
        ("File Name,DIAGNOSIS,Patient-ID,Split", [0], [1], [2], [3]),
        ("Dateiname;Befund;Patienten_Nr.;Aufteilung", [0], [1], [2], [3]),
        ("Fichier;Étiquette;N° patient;Partition", [0], [1], [2], [3]),
        ("archivo,diagnóstico,Número de paciente,partición", [0], [1], [2], [3]),
        ("image_id,dx,lesion_id,sex", [0], [1], [], []),
        ("id,name,class", [0, 1], [2], [], []),
        ("id,file,type,Fall", [1], [2], [3], []),
        ("path,image,label,class,case,patient", [0], [2, 3], [5], []),
        ("x,,label", [], [2], [], []),
    ],
)
def test_columns_are_known_by_their_names(columns, path, label, subject, fold):
    names = columns.split(";" if ";" in columns else ",")
    found = [find_columns(names, role) for role in ("path", "label", "subject", "fold")]
    assert found == [path, label, subject, fold]


def test_every_known_name_has_one_meaning():
    """Else a column would be two things at once."""
    groups = [{plain(name) for name in group} for tiers in ROLES.values() for group in tiers]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert "" not in set().union(*groups)


@pytest.mark.parametrize(
    ("name", "place"), [("Größe", 0), ("GROSSE", 0), ("patient id", 1), ("Case", 2), ("CASE", 3), ("cAse", None), ("x", None), ("", None)]
)  # fmt: skip
def test_a_column_is_found_as_it_is_written_else_by_the_only_likeness(name, place):
    assert find_column(["Größe", "Patient_ID", "Case", "CASE", "--"], name) == place

"""What people call the columns of a table of images: known names in English, German, French, Spanish, Italian, Portuguese, Dutch and Chinese."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "path": (
        (
            "path", "filepath", "imagepath", "imgpath", "fullpath", "relativepath", "pfad", "dateipfad", "bildpfad",
            "chemin", "chemin d'accès", "chemin de l'image", "ruta", "ruta imagen", "ruta archivo", "percorso", "caminho",
            "路径", "文件路径", "图像路径",
        ),
        (
            "file", "files", "filename", "image", "images", "img", "imagefile", "imagename", "imgname", "imageid",
            "picture", "photo", "Datei", "Dateiname", "Bild", "Bilder", "Bilddatei", "Bildname", "Foto", "fichier",
            "nom du fichier", "nom fichier", "nom de fichier", "nom image", "archivo", "nombre archivo",
            "nombre de archivo", "nombre del archivo", "fichero", "imagen", "nombre imagen", "immagine", "nome immagine",
            "nome file", "nome del file", "imagem", "arquivo", "nome do arquivo", "ficheiro", "bestand", "bestandsnaam",
            "afbeelding", "文件", "文件名", "图像", "图片", "图像名",
        ),
        ("name", "id", "cell", "cellid", "cellname", "nom", "nombre", "zelle"),
    ),
    "label": (
        (
            "label", "labels", "class", "classes", "classname", "classlabel", "diagnosis", "dx", "category", "target",
            "celltype", "celllabel", "groundtruth", "Klasse", "Klassen", "Diagnose", "Befund", "Kategorie", "Zelltyp",
            "Zellart", "classe", "diagnostic", "étiquette", "catégorie", "type cellulaire", "type de cellule", "clase",
            "diagnóstico", "etiqueta", "categoría", "tipo de célula", "tipo celular", "diagnosi", "etichetta", "categoria",
            "tipo di cellula", "rótulo", "klasse", "诊断", "标签", "类别", "类型",
        ),
        ("type", "y", "typ", "tipo", "disease", "subtype", "maladie", "enfermedad"),
    ),
    "subject": (
        (
            "subject", "subjects", "subjectid", "subjectno", "subjectnumber", "patient", "patients", "patientid",
            "patientno", "patientnr", "patientnumber", "patientcode", "patientname", "pid", "ptid", "pat", "patid",
            "patno", "patnr", "idpatient", "Patienten", "Patientennummer", "Patientennr", "Patienten-ID", "Patientin",
            "Patientenkennung", "Patientencode", "Proband", "Probanden-ID", "patiente", "numéro patient",
            "numéro de patient", "num patient", "n° patient", "id du patient", "sujet", "id sujet", "paciente",
            "id paciente", "id del paciente", "número de paciente", "número paciente", "sujeto", "paziente", "id paziente",
            "codice paziente", "numero paziente", "doente", "id do paciente", "patiënt", "patiëntnummer", "anonid",
            "anonymousid", "pseudonym", "pseudonymid", "individual", "individualid", "participant", "participantid",
            "personid", "patientuid", "patientsid", "患者", "患者编号", "患者id", "病人", "病人编号", "病人id", "受试者",
        ),
        (
            "case", "caseid", "caseno", "casenumber", "donor", "donorid", "mrn", "Fall", "Fallnummer", "Fallnr", "Fall-ID",
            "cas", "numéro de cas", "caso", "id caso", "número de caso", "nhc",
        ),
    ),
    "fold": (
        ("split", "fold", "folds", "dataset split", "Aufteilung", "Datenaufteilung", "división"),
        ("part", "partition", "subset", "set", "dataset", "Teil", "Teilmenge", "Datensatz", "sous-ensemble", "partición", "conjunto"),
    ),
}  # fmt: skip
"""Role -> names, the plainest first: a later group counts only where no column bears a name of an earlier one."""


def plain(name: str) -> str:
    """A name or word without what people spell differently: case, accents, blanks, hyphens and other signs.

    >>> plain("Patienten-Nr.") == plain("PATIENTEN_NR"), plain("Étiquette")
    (True, 'etiquette')
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


_KNOWN = {role: [frozenset(map(plain, group)) for group in groups] for role, groups in ROLES.items()}


def find_columns(columns: Sequence[str], role: str) -> list[int]:
    """Places of the columns that may have a role: none, the one, or several that are as likely.

    Args:
        columns: names as they stand in a table.
        role: a key of ``ROLES``.
    """
    for known in _KNOWN[role]:
        for strip in (str, _without_brackets):
            if found := [place for place, name in enumerate(columns) if plain(strip(name)) in known]:
                return found
    return []


def _without_brackets(name: str) -> str:
    """``Patient (ID)``, ``Label [0 = normal]`` without what explains them."""
    return re.sub(r"[(\[].*[)\]]", "", name)


def find_column(columns: Sequence[str], name: str) -> int | None:
    """Place of the column of a name: as it is written, else the only one whose spelling differs; None where none is."""
    if name in columns:
        return list(columns).index(name)
    found = [place for place, column in enumerate(columns) if plain(column) == plain(name) != ""]
    return found[0] if len(found) == 1 else None

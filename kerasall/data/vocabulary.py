"""Words by which the names of folders and columns tell what they are: classes, patients, parts of a split, neither.

Each is compared as ``kerasall.data.spelling.key_of`` spells it. A word more is a word in one of these tables.
"""

from __future__ import annotations

import re

from kerasall.data.spelling import is_placeholder, key_of, keys_of

_CLASS_WORDS = """
all aml cll cml apl hem ball tall bcell tcell preb prob blast blasts lymphoblast lymphoblasts leukemia leukaemia
leukemic leukaemic nonleukemic normal abnormal atypical benign malignant healthy diseased sick control controls
early pre pro mature immature positive negative pos neg cancer cancerous noncancerous tumor tumour reactive
lymphoma myeloma infected uninfected hematogone hematogones haematogone haematogones lymphocyte lymphocytes
monocyte monocytes neutrophil neutrophils eosinophil eosinophils basophil basophils erythroblast erythroblasts
myeloblast myeloblasts promyelocyte promyelocytes myelocyte myelocytes metamyelocyte metamyelocytes platelet platelets
gesund gesunde krank kranke gutartig bosartig boesartig leukamie leukaemie kontrolle kontrollen blasten unauffallig
unauffaellig auffallig auffaellig lymphozyt lymphozyten lymphoblasten monozyten positiv negativ reif unreif
sain sains saine saines malade malades temoin temoins normale normaux benin benigne malin maligne leucemie blaste
blastes lymphoblastes lymphocytes positif negatif
sano sanos sana sanas enfermo enfermos benigno benignos maligno malignos leucemia blasto blastos linfoblasto
linfoblastos linfocito linfocitos positivo positivos negativo negativos
malato malati malata leucemico leucemici linfoblasti linfociti controllo controlli benigni maligni
doente doentes saudavel saudaveis controle controles
急性淋巴细胞白血病 白血病 白血病细胞 正常 正常细胞 健康 对照 患病 良性 恶性 阳性 阴性 原始细胞 淋巴细胞 原始淋巴细胞
"""
CLASS_WORDS = frozenset(_CLASS_WORDS.split())
"""Leukaemia, its stages and its opposite, in English, German, French, Spanish, Italian, Portuguese and Chinese."""

_SHORT_WORDS = frozenset(("pos", "neg", "pre", "pro", "hem"))
"""Words that are a class alone; within a longer name they mean little."""

_NUMBERED_CLASS = re.compile(
    r"(class|klasse|classe|clase|label|grade|grad|type|typ|tipo|stage|category|cat)\d+"
)
_FAB = re.compile(r"(l[1-3]|m[0-7])[a-z]?")

_PATIENT = re.compile(
    r"(patient|patientin|pat|pt|p|case|subject|subj|sub|sujet|donor|person|proband|individual|paciente|paziente|pac|paz|cas|caso|fall"
    r"|id|uid|pid|mrn)[a-z]{0,2}-?\d[\w-]*|(患者|病人|病例|受试者)[\w-]+|[\da-f]{8}(-?[\da-f]{4}){3}-?[\da-f]{12}"
)
_LETTERED_PATIENT = re.compile(
    r"(patient|patientin|pat|subject|case|donor|proband|paciente|paziente|caso|cas|fall)[\s_.-]+"
    r"([a-z]|[ivx]+|one|two|three|four|five|six|seven|eight|nine|ten)",
    re.IGNORECASE,
)
COUNTED = re.compile(r"\D*\d{1,3}\D?")
"""Patients' names that people give by counting, and so may give twice: ``1``, ``P01``, ``Pat. 7``."""
_DATE = re.compile(
    r"(19|20)\d\d[-.](0?[1-9]|1[0-2])([-.](0?[1-9]|[12]\d|3[01]))?"
    r"|(0?[1-9]|[12]\d|3[01])[-.](0?[1-9]|1[0-2])[-.]((19|20)?\d\d)"
    r"|(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
)
_FOLD = re.compile(r"(fold|cv|kfold|crossval|split|partition)-?\d+|\d+fold")
_OTHER = re.compile(
    r"(batch|charge|lot|slide|scan|scanner|plate|well|day|tag|week|run|exp|experiment|set|dataset|site|center|centre|hospital"
    r"|klinik|clinic|lab|camera|cam|microscope|device|stain|session|series|visit|time|tile|patch|crop|cell|zelle|cellule"
    r"|celula|img|image|bild|photo|foto|pic|picture|field|fov|part|chunk|folder|group|version|v|level|zoom|mag|lens|smear"
    r"|ausstrich|frottis|lame|res|size|round|serie|lote|imagen)s?-?\d*[a-z]?"
    r"|\d+x|x\d+"
    r"|images|raw|png|jpe?g|bmp|tiff?|original|originals|processed|preprocessed|cropped|segmented|augmented|masks?|new|old"
    r"|data|left|right|good|bad|others?|misc|colou?r|gr[ae]y|greyscale|grayscale|rgb|mgg|wright|giemsa|copy|export"
    r"|bilder|bilddaten|daten|images?brutes|imagenes|fotos|immagini|imagens"
    r"|unlabell?ed|unsorted|unsortiert|unclassified|unsure|unclear|todo|excluded?|discard(ed)?|rejected|trash|backup|bak|te?mp"
    r"|sonstiges?|verschiedenes?|divers|mixed|various|varios|varie|export|archiv[eo]?"
)
_SECOND = re.compile(
    r"[\W_]*(\(\d+\)|\b(copy|kopie|copie|copia|backup|bak|old|alt|new|neu|more|again|2nd|second)(\W*\(?\d+\)?)?)$"
    r"|[\W_]+(copy|kopie|copie|copia|backup|bak|old|alt|new|neu|more)\d*$|^(copy of|kopie von|copie de|copia di) ",
    re.IGNORECASE,
)
_VISIT = re.compile(
    r"[\W_]+((19|20)\d\d[-._]?\d\d[-._]?\d\d|\d\d?[-._]\d\d?[-._](\d\d)?\d\d"
    r"|(visit|visite|v|slide|smear|ausstrich|scan|day|tag|d|sample|probe|lot|run|t|diagnosis|relapse|rezidiv|followup|fu"
    r"|left|right|pre|post|before|after|bm|pb|km)[\W_]?\d*)$|(?<=\d)[\W_]?[a-f]$",
    re.IGNORECASE,
)
_PARTS = {
    "train": "train training tr trn trainset trainingset trainingsdaten entrainement apprentissage entrenamiento "
    "addestramento treino treinamento 训练 训练集",
    "validation": "validation val valid dev validationset valset validierung validacion "
    "convalida validazione validacao 验证 验证集",
    "test": "test testing tst holdout testset prueba prova teste 测试 测试集",
}
_PART_OF = {word: part for part, words in _PARTS.items() for word in words.split()}


_BESIDE_A_PART = frozenset(
    [
        "data",
        "dataset",
        "set",
        "split",
        "part",
        "images",
        "image",
        "img",
        "cells",
        "daten",
        "bilder",
        "zellen",
        "donnees",
        "datos",
    ]
)
"""Words that say nothing more beside that of a part: ``train_images``, ``01_Test set``."""


def name_part(name: str) -> str:
    """The part of a split that a name stands for: train, validation, test, or "" for none."""
    bare = re.sub(r"^\d+[\W_]+", "", name)
    words = [word for word in re.split(r"[\W_]+", bare) if word and word.casefold() not in _BESIDE_A_PART]
    keys = keys_of(bare) | (keys_of(words[0]) if len(words) == 1 else frozenset())
    return next((_PART_OF[key] for key in sorted(keys) if key in _PART_OF), "")


def has_part_word(name: str) -> bool:
    """Whether one of the words of a name is that of a part: ``ALL_train``."""
    return any(name_part(word) for word in re.findall(r"[^\W\d_]+", name))


def is_fold_name(name: str) -> bool:
    """Whether a name is that of a numbered fold, such as ``fold_2``."""
    return bool(_FOLD.fullmatch(key_of(name)))


def is_class_word(name: str) -> bool:
    """Whether a name is, or has as one of its words, a known class: ``ALL``, ``T-ALL``, ``Normal cells``."""
    if keys_of(name) & CLASS_WORDS or is_numbered_class(name):
        return True
    words = re.findall(r"[^\W\d_]+", name)
    return any(keys_of(word) & CLASS_WORDS - _SHORT_WORDS for word in words)


def is_numbered_class(name: str) -> bool:
    """Whether a name is the number of a class: ``class_0``, ``Grade 2``."""
    return bool(_NUMBERED_CLASS.fullmatch(key_of(name)))


def is_fab_class(name: str) -> bool:
    """Whether a name is one of the classes L1 to L3, M0 to M7, which look like codes of patients."""
    return bool(_FAB.fullmatch(key_of(name)))


def is_patient_word(name: str) -> bool:
    """Whether a name says itself that it is a patient's: ``Patient 3``, ``case-12``, ``P01``."""
    return bool(_PATIENT.fullmatch(key_of(name)) or _LETTERED_PATIENT.fullmatch(name.strip()))


def strip_copy_words(name: str) -> str:
    """A folder's name without what a second one of it bears: ``ALL (2)``, ``ALL - Kopie``, ``ALL_old``."""
    return _SECOND.sub("", name) or name


def strip_visit(name: str) -> str:
    """A patient's name without what tells visits, slides and second folders apart: ``P01_2021-03-01``, ``P01b``."""
    return _VISIT.sub("", strip_copy_words(name)) or name


def is_date(name: str) -> bool:
    """Whether a name is a day or a month, the year with four digits first or last."""
    return bool(_DATE.fullmatch(key_of(name)))


def is_other_word(name: str) -> bool:
    """Whether a name is that of neither a class nor a patient: ``batch1``, ``10x``, ``images``, ``slide_2``."""
    return bool(_OTHER.fullmatch(key_of(name)))


def is_code(name: str) -> bool:
    """Whether a name holds a digit and could be a patient's code: ``H12``, ``2019-0043``, ``7``."""
    told = is_date(name) or is_other_word(name) or is_fab_class(name) or is_fold_name(name)
    return any(letter.isdigit() for letter in name) and not told and not is_placeholder(name)

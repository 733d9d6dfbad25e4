"""Readable class names for the folder names of the data sets used here; other names only lose their underscores."""

READABLE = {
    "n01440764": "tench",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
    "Faces": "face",
    "Faces_easy": "face (close)",
    "Leopards": "leopard",
    "airplanes": "airplane",
    "cougar_body": "cougar (body)",
    "cougar_face": "cougar (face)",
    "crocodile_head": "crocodile (head)",
    "flamingo_head": "flamingo (head)",
    "garfield": "Garfield",
    "joshua_tree": "Joshua tree",
    "snoopy": "Snoopy",
    "water_lilly": "water lily",
    "windsor_chair": "Windsor chair",
    "wild_cat": "wildcat",
    "yin_yang": "yin-yang",
}

MERGED = {"Motorbikes": "motorcycle", "car_side": "car", "dalmatian": "dog", "n02102040": "dog"}
"""Class folders that show what a class of everyday160 shows, and its folder."""


def readable(folder: str) -> str:
    """A class name for people."""
    return READABLE.get(folder, folder.replace("_", " "))

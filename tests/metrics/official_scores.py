"""Writes official_scores.json, the table of what the challenges' own codes score on generated cases.

Each code needs an environment of its own, with old versions of numpy or of cc3d, so the tests read the table. To make
it anew, from the repository's root, with the codes' requirements installed (up to 2024: numpy 1.26.4, scipy 1.10.1 and
connected-components-3d 3.12.1; for 2023 also pandas 1.5.3 and surface-distance 0.1):

    python -m tests.metrics.official_scores 2023 /path/to/BraTS-2023-Metrics  # commit 43c9052
    python -m tests.metrics.official_scores 2024 /path/to/BraTS-2024-Metrics  # commit f1131e3
    python -m tests.metrics.official_scores 2025  # pip install BraTS_evaluation==0.0.10 panoptica==2.1.7
"""

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from tests.metrics.lesion_cases import N_CASES, fingerprint, generated

TABLE = Path(__file__).with_suffix(".json")
ONLY_LABEL_1 = ("brats2024-men-rt",)
OF_2023 = {"brats2023": "BraTS-GLI", "brats2023-men": "BraTS-MEN", "brats2023-met": "BraTS-MET"}
OF_2024 = {
    "brats2024": ("metrics_GLI", "BraTS-GLI"),
    "brats2024-ssa": ("metrics_SSA", "BraTS-SSA"),
    "brats2024-ped": ("metrics_PED", "BraTS-PED"),
    "brats2024-men": ("metrics_MEN", "BraTS-MEN"),
    "brats2024-met": ("metrics_MET", "BraTS-MET"),
    "brats2024-men-rt": ("metrics_MEN_RT", "BraTS-MEN-RT"),
}
OF_2025 = {"brats2025": "gli", "brats2025-met": "mets"}
NAMES_UP_TO_2024 = {
    "LesionWise_Score_Dice": "lesion-wise Dice",
    "LesionWise_Score_HD95": "lesion-wise HD95",
    "LesionWise_Score_NSD @ 0.5": "lesion-wise NSD at 0.5 mm",
    "LesionWise_Score_NSD @ 1.0": "lesion-wise NSD at 1 mm",
    "Legacy_Dice": "Dice",
    "Legacy_HD95": "HD95",
    "Legacy NSD @ 0.5": "NSD at 0.5 mm",
    "Legacy NSD @ 1.0": "NSD at 1 mm",
    "Num_FP": "false lesions",
    "Num_FN": "missed lesions",
}
NAMES_OF_2025 = {
    "global_dsc": "Dice",
    "global_hd95": "HD95",
    "global_nsd": "NSD at 0.5 mm",
    "lesionwise_dsc_mean": "lesion-wise Dice",
    "lesionwise_hd95_mean": "lesion-wise HD95",
    "lesionwise_nsd_mean": "lesion-wise NSD at 1 voxel",
    "all_instance_f1": "lesion F1",
    "small_instance_f1": "small-lesion F1",
    "large_instance_f1": "large-lesion F1",
    "all_instance_fp": "false lesions",
    "all_instance_fn": "missed lesions",
}


def write_cases(folder, n_cases, only_label_1=False):
    for seed in range(n_cases):
        reference, prediction, spacing_mm = generated(seed)
        for name, labels in (("gt", reference), ("pred", prediction)):
            labels = (labels == 1).astype(np.uint8) if only_label_1 else labels
            image = nibabel.Nifti1Image(labels.transpose(), np.diag([*spacing_mm[::-1], 1.0]))
            file = folder / name / f"BraTS-GLI-{seed:05d}-000.nii.gz"
            file.parent.mkdir(exist_ok=True)
            nibabel.save(image, file)


def up_to_2024(module, challenge, n_cases, only_label_1):
    """Return case -> region -> score by our names."""
    cases = {}
    for seed in range(n_cases):
        name = f"BraTS-GLI-{seed:05d}-000.nii.gz"
        arguments = (f"{os.getcwd()}/pred/{name}", f"{os.getcwd()}/gt/{name}", challenge)
        results = importlib.import_module(module).get_LesionWiseResults(*arguments)
        table = results[0] if isinstance(results, tuple) else results
        cases[seed] = {row["Labels"]: scores_of(row, NAMES_UP_TO_2024) for _, row in table.iterrows()}
    return cases


def replace_in_columns_of_numbers(table, old, new, inplace=False):
    """Do what pandas 1.3 did, for which BraTS 2023's code was written: leave columns of arrays alone."""
    for name in table.columns:
        numbers = [new if isinstance(value, float) and value == old else value for value in table[name]]
        table[name] = numbers
    return None if inplace else table


def of_2025(config, n_cases):
    """Return case -> region -> score by our names."""
    import pandas
    from brats_evaluation import evaluation, metrics_parser

    sys.argv = ["brats-evaluate", "--ref_path", "gt", "--pred_path", "pred", "--config", config]
    evaluation.main()
    parse = (
        ["mets", "--output_csv_path", "scores.csv"] if config == "mets" else ["seg", "--output_csv_path", "scores.csv"]
    )
    sys.argv = ["brats-parse-metrics", *parse, "--json_path", "panoptica_evaluation_summary.json"]
    metrics_parser.main()
    cases = {}
    for seed, (_, row) in enumerate(pandas.read_csv("scores.csv").head(n_cases).iterrows()):
        assert row["subject_id"] == f"BraTS-GLI-{seed:05d}-000.nii.gz"
        regions = [column[len("global_dsc_") :] for column in row.index if column.startswith("global_dsc_")]
        cases[seed] = {
            region.upper(): scores_of(row, {f"{name}_{region}": ours for name, ours in NAMES_OF_2025.items()})
            for region in regions
        }
    return cases


def scores_of(row, names):
    """Return the scores of a row by our names; what is left out is None."""
    scores = {ours: float(row[name]) for name, ours in names.items() if name in row}
    return {name: None if np.isnan(score) else score for name, score in scores.items()}


def main(year, source=None, table=TABLE, only=None):
    """Replace a year's part of the table, or that of one definition."""
    n_cases = N_CASES
    scores = json.loads(Path(table).read_text()) if Path(table).is_file() else {}
    sys.path.insert(0, str(source))
    before = os.getcwd()
    if year == "2023":
        import pandas

        pandas.DataFrame.replace = replace_in_columns_of_numbers
    for name, of_name in {"2023": OF_2023, "2024": OF_2024, "2025": OF_2025}[year].items():
        if only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            write_cases(Path(folder), n_cases, name in ONLY_LABEL_1)
            if year == "2025":
                scores[name] = of_2025(of_name, n_cases)
            else:
                module, challenge = ("metrics", of_name) if year == "2023" else of_name
                scores[name] = up_to_2024(module, challenge, n_cases, name in ONLY_LABEL_1)
            os.chdir(before)
    scores["cases"] = {seed: fingerprint(seed) for seed in range(n_cases)}
    Path(table).write_text(json.dumps(scores, sort_keys=True, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

import pytest

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, SeveralProblemsError
from nnunetv2_gsp.submission.rules import find_images, rules_of


@pytest.mark.parametrize(
    ("challenge", "case", "template"),
    [
        ("promise12", "Test_Case07", "Case99_{case}.mhd"),
        ("promise12", "Case07", "Case1{case}.mhd"),
        ("promise12", "Case07", "{case}1_seg.mhd"),
        ("brats2021", "BraTS2021_00001", "{case}_00002.nii.gz"),
        ("brats2020", "BraTS20_Validation_001", "{case}2.nii.gz"),
        ("brats2023", "BraTS-GLI-00001-000", "{case}-00002-000.nii.gz"),
    ],
)
def test_a_template_does_not_lead_to_another_case(challenge, case, template):
    with pytest.raises(ConflictingInputError, match="would be called"):
        rules_of(challenge).file_name(case, template)


def test_a_template_names_the_case():
    rules_of("promise12").check_template("{case}_seg.mhd")
    with pytest.raises(InputError, match=r"names with \{case\} \(such as .*\), got 'x\.mhd'") as refused:
        rules_of("promise12").check_template("x.mhd")
    assert refused.value.parameters == ("names",)


@pytest.mark.parametrize("challenge", ["nope", "msd_task05"])
def test_a_challenge_that_takes_no_archives_is_refused(challenge):
    with pytest.raises(InputError, match=f"Expected a challenge that takes archives among .*, got {challenge}; change"):
        rules_of(challenge)


def test_images_of_another_challenge_are_refused(brats2021):
    with pytest.raises(ConflictingInputError, match="expected images of brats2020, got those of brats2021") as refused:
        find_images(brats2021.source, rules_of("brats2020"))
    assert refused.value.parameters == ("images", "challenge")
    with pytest.raises(MissingInputError, match="expected a folder of images"):
        find_images(brats2021.source / "nowhere", rules_of("brats2021"))


def test_images_of_two_sets_are_refused(promise12):
    for file in (promise12.source / "test_data").iterdir():
        (promise12.source / "live").mkdir(exist_ok=True)
        (promise12.source / "live" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConflictingInputError, match="expected one case Case00, got"):
        find_images(promise12.source, rules_of("promise12"))


def test_every_case_that_is_not_complete_is_named(brats2021):
    for case in brats2021.cases[:2]:
        (brats2021.source / case / f"{case}_t2.nii.gz").unlink()
    with pytest.raises(SeveralProblemsError) as refused:
        find_images(brats2021.source, rules_of("brats2021"))
    first, second = refused.value.problems
    assert brats2021.cases[0] in first
    assert brats2021.cases[1] in second

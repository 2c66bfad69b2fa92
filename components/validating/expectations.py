"""What is expected of the table of images, in Great Expectations' terms.

Importing this module imports Great Expectations, which can take 15 seconds: do it late.
"""

from collections.abc import Sequence

from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.expectations.row_conditions import Column

from components.validating.inspection import PAIR_OK, READABLE

_LEAVE_OUT = "leave it out (`exclude` of its dataset in params.yaml)"


def image_expectations(
    *,
    modes: Sequence[str],
    smallest_training_side: int,
    smallest_test_side: int,
    largest_aspect: float,
    smallest_pair_correlation: float,
    validates_on_test: bool = False,
) -> list[Expectation]:
    """List what is expected: `description` says it in words, `notes` what to do about a row that fails.

    Empty cells are not judged: where there is no value, for instance no pair, nothing is expected. Failures of severity
    `info` are only reported. The arguments are the limits of `components.validate.Validation`, and whether images both
    validate and test, which is reported where it is so.
    """
    shared = [
        gxe.ExpectColumnValuesToBeNull(
            column="also_tested",
            severity=FailureSeverity.INFO,
            description="no validation image is a test image",
            notes="The curves of the training are then of test images; nothing is learnt from them, or chosen by them.",
        )
    ]
    training = Column("split") == "training"
    kept_out = Column("split") != "training"
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="readable",
            value_set=[READABLE],
            description="every image can be read as 8-bit RGB",
            notes=f"Fetch or convert the image again, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="mode",
            value_set=list(modes),
            description=f"every image is stored as one of {', '.join(modes)}",
            notes=f"Convert the image, allow its mode (`validate.modes`), or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="smallest_side",
            min_value=smallest_training_side,
            row_condition=training,
            description=f"no side of a training image is under {smallest_training_side} pixels",
            notes=f"Train on smaller patches and lower `validate.smallest_training_side`, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="smallest_side",
            min_value=smallest_test_side,
            row_condition=kept_out,
            description=f"no side of a validation or test image is under {smallest_test_side} pixels",
            notes=f"Lower `validate.smallest_test_side`, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="aspect",
            max_value=largest_aspect,
            description=f"the longer side is at most {largest_aspect:g} times the shorter one",
            notes=f"Raise `validate.largest_aspect`, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="pair",
            value_set=[PAIR_OK],
            description="every degraded image is there and has the clean image's size divided by the scale",
            notes=f"Correct `degraded` of the dataset in params.yaml, fetch its files again, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="pair_correlation",
            min_value=smallest_pair_correlation,
            description=f"a degraded image shows what its clean one does (correlation {smallest_pair_correlation:g})",
            notes=f"Files are mixed up: correct `degraded` of the dataset in params.yaml, or {_LEAVE_OUT}.",
        ),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["split", "dataset", "name"],
            description="no two images of a dataset have the same name",
            notes="Make names of more of the path (`name` of the dataset, such as '{1}_{name}'), rename one "
            "of the files, or narrow the patterns.",
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="same_file_across_splits",
            description="no training file is in another split" if validates_on_test else "no file is in two splits",
            notes=f"Else the scores are of images seen in training: {_LEAVE_OUT}.",
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="near_duplicate_across_splits",
            description="no image looks like an image of another split",
            notes="Else the scores are of images seen in training. Look at both: if they show the same, "
            f"{_LEAVE_OUT}; if not, lower `validate.near_duplicate_bits`.",
        ),
        gxe.ExpectColumnValuesToBeNull(
            column="same_file_in_split",
            severity=FailureSeverity.INFO,
            description="no file is twice in one split",
            notes=f"It counts twice: {_LEAVE_OUT} if that is not meant.",
        ),
        *(shared if validates_on_test else []),
    ]

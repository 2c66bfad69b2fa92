from components.reporting.summary import WIDTH, summary
from tests.reporting.findings import findings


def test_columns_are_aligned_and_signed():
    text = summary(findings({"bicubic": 30.0, "scratch": 31.0, "dckd": 31.25, "teacher": 32.0}))
    assert text.splitlines()[:7] == [
        "only",
        "method    PSNR    SSIM  vs scratch  vs teacher  parameters",
        "----------------------------------------------------------",
        "bicubic  30.00  0.9000       -1.00       -2.00           -",
        "scratch  31.00  0.9000           -       -1.00     100,000",
        "dckd     31.25  0.9000       +0.25       -0.75     100,000",
        "teacher  32.00  0.9000       +1.00           -     400,000",
    ]


def test_every_set_has_its_block():
    lines = summary(findings({"bicubic": 30.0, "scratch": 31.0, "teacher": 32.0}, sets=("Set5", "Set14"))).splitlines()
    assert [lines[0], lines[7]] == ["Set5", "Set14"]
    assert "33.00" in lines[12]


def test_no_line_is_wider_than_a_hundred_columns_however_long_the_names_are():
    long = "a_method_with_a_name_" * 4
    text = summary(
        findings({"bicubic": 30.0, "scratch": 31.0, long: 31.5, "teacher": 32.0}, reference=long, sets=("set " * 40,))
    )
    assert max(map(len, text.splitlines())) <= WIDTH == 100
    assert text.endswith("\n")

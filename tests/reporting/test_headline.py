from components.reporting.headline import headline, networks, title
from tests.reporting.findings import findings


def test_the_best_method_its_lead_and_its_share_of_the_teachers_gain_are_told():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "logits": 31.2, "dckd": 31.5, "teacher": 32.0})
    assert headline(found) == (
        "dckd makes the best student: 31.50 dB on only, 0.50 dB above scratch, the same network trained without it. "
        "It keeps 75 % of the 2.00 dB by which the teacher beats bicubic."
    )


def test_several_sets_are_averaged():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "dckd": 31.5, "teacher": 32.0}, sets=("one", "two", "three"))
    assert "32.50 dB on average over the 3 test sets" in headline(found)


def test_no_method_is_praised_where_none_beats_the_reference():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "logits": 30.5, "dckd": 30.996, "teacher": 32.0})
    assert headline(found).startswith(
        "No method beats scratch, which reaches 31.00 dB on only; dckd, the next best, is 0.004 dB below. It keeps 50 %"
    )


def test_a_student_above_its_teacher_or_below_the_baseline_has_no_share():
    above = findings({"bicubic": 30.0, "scratch": 31.0, "dckd": 32.5, "teacher": 32.0})
    assert headline(above).endswith("Over bicubic it gains 2.50 dB, the teacher only 2.00 dB.")
    below = findings({"bicubic": 30.0, "scratch": 29.0, "dckd": 29.5, "teacher": 32.0})
    assert headline(below).endswith("It is 0.50 dB below bicubic, the teacher 2.00 dB above it.")
    useless = findings({"bicubic": 30.0, "scratch": 29.0, "dckd": 29.5, "teacher": 30.0})
    assert headline(useless).endswith("The teacher itself gains nothing over bicubic.")


def test_title_and_networks_name_task_scale_backbones_and_sizes():
    found = findings({"bicubic": 30.0, "scratch": 31.0, "teacher": 32.0}, scale=3)
    assert title(found) == "Distillation report: sr x3"
    assert networks(found) == (
        "Student: edsr (blocks 4), 100,000 parameters. Teacher: edsr (blocks 4), 400,000 parameters, 4.0 times as many."
    )


def test_a_lead_that_rounds_to_nothing_is_no_lead():
    for psnr in (31.0004, 31.0, 30.9996):
        found = findings({"bicubic": 30.0, "scratch": 31.0, "logits": 30.5, "dckd": psnr, "teacher": 32.0})
        assert headline(found).startswith("dckd makes no better student than scratch: both reach 31.00 dB on only.")

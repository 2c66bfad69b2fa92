"""The result in one plain sentence, and the networks it is about."""

from components.reporting.findings import Contender, Findings
from components.reporting.wording import decibels, distance, percent, whole


def title(findings: Findings) -> str:
    """Task and scale."""
    scale = f" x{findings.task.scale}" if findings.task.scale > 1 else ""
    return f"Distillation report: {findings.task_name}{scale}"


def networks(findings: Findings) -> str:
    """Student and teacher with their parameters."""
    student, teacher = findings.base, findings.teacher
    if not student.cost or not teacher.cost:
        raise AssertionError("a network has a cost")
    times = teacher.cost.parameters / student.cost.parameters
    return (
        f"Student: {student.backbone}, {whole(student.cost.parameters)} parameters. "
        f"Teacher: {teacher.backbone}, {whole(teacher.cost.parameters)} parameters, {times:.1f} times as many."
    )


def headline(findings: Findings) -> str:
    """Which method makes the best student, by how much, and what share of the teacher's gain it keeps."""
    best = max(findings.students, key=lambda student: student.psnr)
    return f"{_claim(findings, best)} {_kept(findings, best)}"


def _claim(findings: Findings, best: Contender) -> str:
    base = findings.base
    where = findings.sets[0] if len(findings.sets) == 1 else f"average over the {len(findings.sets)} test sets"
    reached = f"{decibels(best.psnr)} dB on {where}"
    others = [student for student in findings.students if student is not base]
    if not others:
        return f"{base.name} reaches {reached}; no other method was compared."
    second = max(others, key=lambda student: student.psnr)
    between = distance(second.psnr - base.psnr)
    if not float(between):
        return f"{second.name} makes no better student than {base.name}: both reach {reached}."
    if second.psnr > base.psnr:
        without = f"{base.name}, the same network trained without it"
        return f"{best.name} makes the best student: {reached}, {between} dB above {without}."
    return f"No method beats {base.name}, which reaches {reached}; {second.name}, the next best, is {between} dB below."


def _kept(findings: Findings, best: Contender) -> str:
    baseline, teacher = findings.baseline, findings.teacher
    gain = teacher.psnr - baseline.psnr
    if gain <= 0:
        return f"The teacher itself gains nothing over {baseline.name}."
    kept = best.psnr - baseline.psnr
    if kept < 0:
        return f"It is {distance(kept)} dB below {baseline.name}, the teacher {distance(gain)} dB above it."
    if kept > gain:
        return f"Over {baseline.name} it gains {distance(kept)} dB, the teacher only {distance(gain)} dB."
    return f"It keeps {percent(kept / gain)} of the {distance(gain)} dB by which the teacher beats {baseline.name}."

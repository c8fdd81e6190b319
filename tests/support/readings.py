"""What frames say, without a saved run."""

from depthprobe.findings import angular, drops, gradnorm, variance
from depthprobe.findings.findings import read_findings
from depthprobe.findings.study import read_study


def findings_in(*directories):
    """What the runs in these directories say together."""
    return read_findings(read_study(list(directories)))


def angular_findings(frame):
    return angular.read({"angular": frame})


def gradnorm_findings(frame, facts=None):
    return gradnorm.read({"gradnorm": frame}, facts)


def variance_findings(frame, influence=None, facts=None):
    tables = {"variance": frame} if influence is None else {"variance": frame, "influence": influence}
    return variance.read(tables, facts)


def sweep_findings(frame, facts=None, layers=None):
    return drops.read({"prune_sweep": frame}, facts, layers)

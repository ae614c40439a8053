"""What every part leans on: the rules for arguments and the sentences of errors."""

from mutations import Mutation

MUTATIONS = (
    Mutation(
        file="keras_resnext/checks.py",
        old="(least is None or value >= least)",
        new="(least is None or value > least)",
        tests="tests/test_checks.py",
    ),
    Mutation(
        file="keras_resnext/checks.py",
        old="(below is None or value < below)",
        new="(below is None or value <= below)",
        tests="tests/test_checks.py",
    ),
    Mutation(
        file="keras_resnext/errors.py",
        old="cutoff=0.5",
        new="cutoff=1.0",
        tests="tests/test_checks.py",
    ),
)

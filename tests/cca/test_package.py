"""`mmjax.cca` stands alone, and the imports from before it was a package of its own go on."""

import subprocess
import sys

import mmjax.cca
import mmjax.objectives


def test_estimators_import_no_loss():
    code = (
        "import sys, mmjax.cca; "
        "parts = {name.split('.')[1] for name in sys.modules if name.startswith('mmjax.')}; "
        "sys.exit(str(parts - {'cca', 'errors'}) if parts - {'cca', 'errors'} else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_estimators_are_importable_from_the_objectives_too():
    for name in set(mmjax.cca.__all__) - {"NotFittedError"}:
        assert getattr(mmjax.objectives, name) is getattr(mmjax.cca, name)

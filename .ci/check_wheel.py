"""A wheel holds our two packages and nothing else, imports where neither torch nor anything else is installed but what
the command line needs, and the source distribution beside it holds what its tests need."""

import sys
import tarfile
from importlib.metadata import version
from zipfile import ZipFile

import graphkd
from graphkd.cli.main import main

wheel, source = sys.argv[1:]
names = ZipFile(wheel).namelist()
tops = {name.split("/")[0] for name in names}
about = f"graphkd-{graphkd.__version__}.dist-info"
expected = {"graphkd", "graphkd_kernels", about}
assert tops == expected, f"top-level names of the wheel: expected {expected}, found {tops}"
assets = "graphkd/pictures/page/report.html"
for needed in ("graphkd/py.typed", assets, "graphkd_kernels/py.typed", f"{about}/licenses/LICENSE"):
    assert needed in names, f"the wheel lacks {needed}"
assert version("graphkd") == graphkd.__version__

with tarfile.open(source) as archive:
    packed = archive.getnames()
root = f"graphkd-{graphkd.__version__}"
assert {name.split("/")[0] for name in packed} == {root}
for needed in ("CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", ".ci/run", "docs/index.md", "tests/conftest.py"):
    assert f"{root}/{needed}" in packed, f"the source distribution lacks {needed}"

assert "PRGDistiller" in dir(graphkd)
assert main(["--help"]) == main(["distill", "--help"]) == main(["methods"]) == 0
assert main(["methods", "prq"]) == 2
assert "torch" not in sys.modules
print(f"{wheel}: {len(names)} files, graphkd {graphkd.__version__} imports in a bare environment")

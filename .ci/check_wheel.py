"""A wheel holds our two packages and nothing else, and imports where neither torch nor anything else is installed."""

import sys
from zipfile import ZipFile

import graphkd
from graphkd.cli.main import main

names = ZipFile(sys.argv[1]).namelist()
tops = {name.split("/")[0] for name in names}
expected = {"graphkd", "graphkd_kernels", f"graphkd-{graphkd.__version__}.dist-info"}
assert tops == expected, f"top-level names of the wheel: expected {expected}, found {tops}"
for needed in (
    "graphkd/py.typed",
    "graphkd/pictures/page/report.html",
    "graphkd_kernels/py.typed",
    f"graphkd-{graphkd.__version__}.dist-info/licenses/LICENSE",
):
    assert needed in names, f"the wheel lacks {needed}"
assert "PRGDistiller" in dir(graphkd)
assert main(["--help"]) == main(["distill", "--help"]) == main(["methods"]) == 0
assert main(["methods", "prq"]) == 2
assert "torch" not in sys.modules
print(f"{sys.argv[1]}: {len(names)} files, graphkd {graphkd.__version__} imports in a bare environment")

#!/bin/sh
# Runs inside the build (see Dockerfile): installs what a stage imports into /opt/venv, removes what none reads, and
# leaves it in /layers/torch and /layers/others, the image's two layers of packages. Arguments: the files of
# requirements and constraints. TORCH picks torch's build: `cuda` is the one on PyPI; `cpu`, `cu126`, ... are others
# of PyTorch's.
set -eu
requirements="$1"
constraints="$2"
packages=lib/python3.11/site-packages

install() {
  # The builder's own pip installs into an environment without pip, so that none has to be removed.
  python3.11 -m pip --python /opt/venv/bin/python --disable-pip-version-check install \
    --no-compile --progress-bar off --root-user-action ignore --find-links /wheels "$@"
}
python3.11 -m venv --without-pip /opt/venv
torch="$(grep '^torch==' "$constraints")"
if [ "$TORCH" = cuda ]; then
  set -- "torch===${torch#torch==}" # `==` would take a wheel for the CPU as well
elif ls /wheels/torch-*+"$TORCH"-*.whl >/dev/null 2>&1; then
  set -- "$torch+$TORCH"
else
  set -- "$torch+$TORCH" --index-url "https://download.pytorch.org/whl/$TORCH"
fi
install --no-deps "$@"
install --requirement "$requirements" --constraint "$constraints"

cd "/opt/venv/$packages"
# Tests, except numpy's, of which numpy.testing imports a file.
find . -type d -name tests -not -path './numpy/_core/tests' -prune -exec rm -r {} +
# Torch's headers, tests and their programs: extending torch takes a compiler, and there is none.
rm -rf torch/test torch/include torch/share
find torch/bin -type f -not -name torch_shm_manager -delete
# Symbols for debuggers. The libraries for CUDA stay as they are, because nothing here could test them.
strip --strip-unneeded torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so
# With triton, torch compiles some kernels when they are called (in 2.13 one of torch.bmm), which fails without a
# compiler. Without triton it calls those that come with it.
rm -rf triton triton-*.dist-info /opt/venv/bin/proton*
# Sources in C and archives for linkers.
find . -type f '(' -name '*.c' -o -name '*.cpp' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' ')' -delete
# Descriptions of the web services other than S3 and signing in.
[ ! -d botocore/data ] || find botocore/data -mindepth 1 -maxdepth 1 -type d \
  -not -name 's3*' -not -name 'sso*' -not -name 'sts' -not -name signin -exec rm -r {} +
# Bytecode for a quick start, because nobody can write it later; unchecked, because the sources can't change. The seed
# makes it the same each time. A few packages hold files in the syntax of later Pythons, which are not imported here.
PYTHONHASHSEED=0 python3.11 -m compileall -qq -j 0 --invalidation-mode unchecked-hash . || true

# torch, the bulk, has a layer of its own: it stays as it is, and is not sent again, when the rest of the lock changes.
# For that, all times are equal, because a layer's name is the hash of its files and their times.
mkdir -p "/layers/torch/opt/venv/$packages" /layers/others/opt
find . -maxdepth 1 '(' -name 'torch*' -o -name functorch -o -name 'nvidia*' -o -name 'cuda*' ')' \
  -exec mv {} "/layers/torch/opt/venv/$packages/" ';'
cd /
mv /opt/venv /layers/others/opt/
find /layers -exec touch --no-dereference --date 1980-01-01T00:00:00Z {} +

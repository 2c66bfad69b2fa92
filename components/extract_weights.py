"""Command: save the tensors of a pickled network as safetensors, from which a teacher can be imported."""

import logging
from functools import partial
from pathlib import Path

from safetensors.torch import save

from components.run.files import written_whole
from components.run.step import run_step
from components.use.pickled_modules import pickled_tensors

_LOG = logging.getLogger(__name__)


def extract_weights(checkpoint: Path, output: Path) -> None:
    """Write the tensors of a checkpoint that `train_teacher` refuses because loading it could run code.

    Nothing that the file names is looked up or called. This is not a stage of the pipeline.

    Args:
        checkpoint: a file by `torch.save` that holds a whole network, or tensors among other objects.
        output: the `.safetensors` to write.

    Raises:
        InputError: the checkpoint is damaged, or holds no tensors by name.
    """
    tensors = pickled_tensors(checkpoint)
    content = save(tensors)
    with written_whole(output) as partial:
        partial.write_bytes(content)
    _LOG.info("wrote %d tensors to %s", len(tensors), output)


main = partial(run_step, extract_weights)


if __name__ == "__main__":
    main()

"""What a user of the pipeline's commands can get wrong."""


class PipelineError(Exception):
    """A command of the pipeline can't go on: says what is wrong, where, and what to do.

    Commands print it after `error: `, without a traceback, and exit with 2.
    """

from .batch_runner import BatchResult as BatchResult
from .batch_runner import explain_batch as explain_batch
from .batch_runner import run_batch as run_batch
from .distributed import Processes as Processes
from .lock import locked as locked

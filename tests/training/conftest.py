import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `trainee` is also run as a program, by the tests that kill it

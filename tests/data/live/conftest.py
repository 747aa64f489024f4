import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # `live_training` is also run as a program, by the test that kills it

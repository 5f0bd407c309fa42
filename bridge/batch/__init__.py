"""Zoos: many models, each converted in a process of its own, by whatever engine runs their futures.

from bridge.batch import convert_zoo

zoo = convert_zoo("zoo.toml", "out")
zoo.outcomes, zoo.refused, zoo.save()
"""

from bridge.batch.jobs import Job
from bridge.batch.outcomes import Outcome, Zoo
from bridge.batch.running import convert_zoo

__all__ = ["Job", "Outcome", "Zoo", "convert_zoo"]

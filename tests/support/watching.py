"""Someone who is told how a run is going, and remembers it."""

from depthprobe.pipeline.watch import Silent


class Told(Silent):
    """Takes the news."""

    def __init__(self):
        self.news = []

    def say(self, news):
        self.news.append(news)

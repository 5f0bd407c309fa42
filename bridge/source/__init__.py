"""A Keras model as the source that one would write: its calls as data, those of a torch module as a function, equal
functions as one, runs of equal calls as a loop, and the text."""

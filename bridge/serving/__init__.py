"""A Keras model as it is served: without what only training needs (`folding.py`), shown to be equal (`proof.py`)."""

"""The combiner: takes updates in, counts them, folds them, makes the new model."""

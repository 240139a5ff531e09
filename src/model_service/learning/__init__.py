"""How a model is made: dataset, split, estimators, evaluation, gate. Imported by the training child only."""

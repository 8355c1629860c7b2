"""The job kind `predict-batch`: a model's answers for every row of a data set, as a new data set.

job.py       the loop, its checkpoints, and the data set that comes out
reading.py   rows of Parquet shards in portions that always begin at the same places
feeding.py   columns to the model's input
answers.py   the model's outputs to columns, with their statistics and fingerprint
writing.py   one shard at a time
"""

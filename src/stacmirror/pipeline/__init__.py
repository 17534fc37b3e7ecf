"""The stages of a run, joined by bounded queues: walk, worker (plan, transfer, stage), commit, sweep.

They see the contracts in `interfaces` and plain values from `model`; never a client, a database or a screen.
"""

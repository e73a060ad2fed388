"""The proof: campaigns that anybody can run, that count what really happened, and that can fail.

    python -m tests.prove simulation --seeds 0:1000
    python -m tests.prove small             # every campaign, in small
    python -m tests.prove full --record     # every campaign; writes benchmarks/results/prove/

Every campaign is a package beside this file that exposes one `CAMPAIGN` (see `campaign.py`) and is registered in
`__main__.py`.
"""

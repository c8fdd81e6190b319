"""Models or finished runs side by side: what is compared -> does it agree -> tables -> saved.

``subjects`` finds the runs behind each argument, ``agreement`` refuses what cannot be set side by side,
``tables`` and ``item_scores`` make the tables, and ``compare`` is the whole way. Nothing here needs torch.
"""

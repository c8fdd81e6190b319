"""Models or finished runs side by side: what is compared -> does it agree -> tables -> saved.

``sides`` finds the runs behind each argument, ``agreement`` refuses what cannot be set side by side,
``tables`` and ``items`` make the tables, ``story`` saves them. Nothing here needs torch.
"""

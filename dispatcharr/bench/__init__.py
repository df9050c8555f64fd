"""The laboratory: the same expressions under dispatcharr and its peers, in one run, side by side.

Policy, once:

- Contenders take turns within one run, and what is compared are times of the same round: a busy
  machine harms all alike. Figures are medians over the rounds.
- A time counts if the answer is right: every contender's is compared with NumPy's beforehand.
- What is prepared once is not timed: conversions of the operands, compilation, warm-up. A fresh
  result is: each contender makes one each time, and the one before is dropped.
- Nothing is learned for the user's profile, and forced runs teach the automatic path nothing.
"""

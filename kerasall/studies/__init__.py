"""What spans steps or runs: experiments, plans, repeats, comparisons, reviews, external checks, data cards."""

"""What a detector scores records with.

base           the contract: learn from rows of numbers, score rows
relation       by the relations between features
relation_view  these relations at one moment: distances, and what a missing value would be
covariance     the means and covariances behind them, of the latest records
distribution   by how rare the values are
outliers       which of a few records are too far out to learn from
"""

-- What the other side would have earned on the same path at the same cost (METHOD 8, condition 5); null where no path is known.
ALTER TABLE model_service.outcomes ADD COLUMN opposite_net_return double precision;
ALTER TABLE model_service.samples ADD COLUMN opposite_net_return double precision;

-- The names of a feature set, in the order of its bytes, so that rows of an older set can still be read.
CREATE TABLE model_service.feature_sets (
    feature_set  text PRIMARY KEY,
    names        text[] NOT NULL CHECK (cardinality(names) > 0),
    first_used_at timestamptz NOT NULL
);

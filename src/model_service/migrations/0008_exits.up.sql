-- A position lasts from flat until flat, or until it flips. It goes by the lot that opened it, so that what is known of
-- one position can never be taken for what is known of the next.
ALTER TABLE model_service.lots ADD COLUMN position_id bigint;
COMMENT ON COLUMN model_service.lots.position_id IS 'lot_id of the lot that opened the position; null: closed before this was kept';
UPDATE model_service.lots AS lots SET position_id = oldest.lot_id
FROM (SELECT strategy_id, asset, min(lot_id) AS lot_id FROM model_service.lots WHERE remaining_quantity > 0 GROUP BY 1, 2) AS oldest
WHERE lots.strategy_id = oldest.strategy_id AND lots.asset = oldest.asset AND lots.remaining_quantity > 0;

-- What the exit policy remembers of a position, one row for each book; a row of an earlier position says nothing.
CREATE TABLE model_service.exit_states (
    strategy_id        text NOT NULL,
    asset              text NOT NULL,
    position_id        bigint NOT NULL,
    best_price         numeric CHECK (best_price > 0),
    stop_price         numeric,
    parted_lot_ids     bigint[] NOT NULL,
    goal_cause         text,
    goal_quantity      numeric CHECK (goal_quantity > 0),
    goal_lot_id        bigint,
    goal_lot_closed    numeric,
    goal_part_lot_ids  bigint[],
    attempted_at       timestamptz,
    attempted_cause    text,
    PRIMARY KEY (strategy_id, asset)
);
COMMENT ON COLUMN model_service.exit_states.best_price IS 'best price since the entry, for the trailing stop';
COMMENT ON COLUMN model_service.exit_states.stop_price IS 'where the trailing stop stands, once armed; it never loosens';
COMMENT ON COLUMN model_service.exit_states.parted_lot_ids IS 'lots whose part has been taken at the take-profit';
COMMENT ON COLUMN model_service.exit_states.goal_lot_closed IS 'an exit is done when so much of goal_lot_id, and all before it, is closed';

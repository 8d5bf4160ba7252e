-- Who posts what: a message that one process is posting is left alone by the others until then.
ALTER TABLE outbox ADD COLUMN claimed_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN claimed_until BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_open ON jobs (first_seen) WHERE event IS NULL;
CREATE INDEX audit_births ON audit (id) WHERE seq = 1;
-- How long after its end a lease is not given anew: a call under it may still be under way.
ALTER TABLE jobs ADD COLUMN lease_grace BIGINT NOT NULL DEFAULT 0;

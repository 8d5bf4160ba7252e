-- Times are milliseconds since 1970, ids and JSON are text, so that every database reads alike.

CREATE TABLE meta (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    birth BIGINT NOT NULL,
    digest_key TEXT NOT NULL,
    instance TEXT NOT NULL,
    probes BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE holds (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    held_until BIGINT NOT NULL
);
INSERT INTO holds (one, held_until) VALUES (1, 0);

CREATE TABLE jobs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    about TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    deferrals BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    told BIGINT NOT NULL DEFAULT 0,
    lease_fence BIGINT NOT NULL DEFAULT 0,
    lease_until BIGINT NOT NULL DEFAULT 0,
    lease_grace BIGINT NOT NULL DEFAULT 0,
    user_id TEXT,
    plan TEXT,
    planned_at BIGINT,
    outcome TEXT,
    event TEXT,
    concluded_at BIGINT,
    reset_at BIGINT,
    UNIQUE (system, request_id)
);
CREATE INDEX jobs_user ON jobs (user_id);
CREATE INDEX jobs_planned ON jobs (planned_at);
CREATE INDEX jobs_open ON jobs (first_seen) WHERE event IS NULL;

CREATE TABLE steps (
    job BIGINT NOT NULL REFERENCES jobs (id),
    seq BIGINT NOT NULL,
    step TEXT NOT NULL,
    PRIMARY KEY (job, seq)
);

CREATE TABLE users_held (
    user_id TEXT PRIMARY KEY,
    job BIGINT NOT NULL REFERENCES jobs (id)
);
CREATE INDEX users_held_job ON users_held (job);

CREATE TABLE outbox (
    event_id TEXT PRIMARY KEY,
    event TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL DEFAULT 0
);

-- Records and checkpoints in the order they were written; a checkpoint has no seq of its own.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain TEXT NOT NULL,
    seq BIGINT,
    digest TEXT,
    line TEXT NOT NULL,
    request TEXT,
    ticket TEXT,
    user_id TEXT,
    published BIGINT NOT NULL DEFAULT 0,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    UNIQUE (chain, seq)
);
CREATE INDEX audit_pending ON audit (id) WHERE published = 0;
CREATE INDEX audit_births ON audit (id) WHERE seq = 1;

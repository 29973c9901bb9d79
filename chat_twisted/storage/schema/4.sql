-- The end of a user or of a room costs its own rows, not a walk through those of all others.

CREATE INDEX member_room ON member (room) WHERE until IS NULL;
CREATE INDEX member_left ON member (until) WHERE until IS NOT NULL;
CREATE INDEX invitation_user ON invitation (user);

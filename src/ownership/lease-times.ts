/** The times of a lease. SPEC.md says what follows from them together. */

/** How long a lease holds without renewal. */
export const leaseMs = 6_000;
export const renewMs = 2_000;
/** How often a standby looks: a killed owner is replaced within 2 s. */
export const pollMs = 250;
/**
 * How long a standby watches a young lease with a free lock, and how often it looks meanwhile. An
 * owner that lost its session has a new one in 0.1 s; the rest is for a machine under load.
 */
export const confirmMs = 500;
export const confirmPollMs = 100;
/**
 * How often an owner without the lock tries to take it; less than `confirmMs`, so that no standby
 * finds the lock free for that long.
 */
export const relockMs = 200;
/** How long a takeover waits for the predecessor's writes before it ends their connections. */
export const patienceMs = 2_000;
/**
 * Delivery stops this much before the lease can have expired, for clocks that differ and for bytes
 * on their way to a socket.
 */
export const deliveryMarginMs = 500;
export const standbyRetryMs = 250;
export const courtesyMs = 400;
export const renewRetryMs = 100;
export const renewRetryMsMax = 400;
export const evictedPollMs = 50;
/** How often a standby tries to end the owner's session before it takes over without the lock. */
export const evictionsMax = 10;

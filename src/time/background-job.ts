/**
 * Work beside the calls. Both methods are idempotent, and a job may be started again after a stop.
 * No run begins after the call of `stop`, and `stop` resolves when the run under way has ended.
 */
export interface BackgroundJob {
  start(): void | Promise<void>;
  stop(): Promise<void>;
}

/** How long a drain waits for a job, because its run may wait for a lock of the database. */
export const jobStopMsMax = 1_000;

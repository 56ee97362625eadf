/**
 * The time of the load programs. `monotonicUs` is one clock for all processes of this machine
 * (CLOCK_MONOTONIC), so that a consumer can subtract a publisher's stamp. `performance.now()`
 * starts at 0 in each process.
 */
const originUs = Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;

export function monotonicUs(): number {
  return originUs + performance.now() * 1000;
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Checks `condition` every `everyMs` until it is true.
 * @throws Error that names `what`, after `timeoutMs`
 */
export async function waitFor(
  what: string,
  timeoutMs: number,
  everyMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await delay(everyMs);
  }
}

/**
 * Calls `fire(dueUs)` at a fixed rate (open loop) until it is stopped. A late call is made at once
 * with the time at which it was due, so that a stall shows in the latencies of all calls that it
 * delays. Timers are exact only to 1 ms, so close to the due time the event loop polls instead.
 */
export function startSchedule(callsPerSecond: number, fire: (dueUs: number) => void): () => void {
  const periodUs = 1_000_000 / callsPerSecond;
  const startUs = monotonicUs();
  let made = 0;
  let stopped = false;
  const turn = (): void => {
    if (stopped) return;
    let dueUs = startUs + made * periodUs;
    for (let now = monotonicUs(); dueUs <= now; now = monotonicUs()) {
      made++;
      fire(dueUs);
      dueUs = startUs + made * periodUs;
    }
    const waitMs = (dueUs - monotonicUs()) / 1000;
    if (waitMs > 2.5) setTimeout(turn, waitMs - 1.5);
    else setImmediate(turn);
  };
  turn();
  return () => {
    stopped = true;
  };
}

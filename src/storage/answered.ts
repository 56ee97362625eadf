import type { Client, Connection as Wire } from 'pg';
import type { Clock } from '../time/clock.ts';

export interface AnswerLimit {
  readonly withinMs: number;
  readonly clock: Clock;
}

/**
 * Does `work`, and cuts the connection if that takes longer: for a database that is silent and not gone, because its machine hangs or
 * the network loses everything. TCP alone notices that after a quarter of an hour.
 */
export async function answered<T>(
  client: Client,
  limit: AnswerLimit,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const { connection } = client as unknown as { readonly connection: Wire };
  const cancel = limit.clock.after(limit.withinMs, () => {
    connection.stream.destroy(new Error(`Connection terminated: no answer for ${limit.withinMs} ms`));
  });
  try {
    return await work(client);
  } finally {
    cancel();
  }
}

/** Calls `act` after `ms`, and again and again after `againMs`, until the function that it returns is called. */
export function untilStopped(
  clock: Clock,
  { ms, againMs }: { readonly ms: number; readonly againMs: number },
  act: () => Promise<void>,
): () => void {
  let stopped = false;
  let cancel = (): void => undefined;
  const begin = async (): Promise<void> => {
    await act();
    if (!stopped) cancel = clock.after(againMs, () => void begin());
  };
  cancel = clock.after(ms, () => void begin());
  return () => {
    stopped = true;
    cancel();
  };
}

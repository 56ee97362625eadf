import type { Client, Connection as Wire } from 'pg';
import type { Clock } from '../../time/clock.ts';

export interface AnswerLimit {
  readonly withinMs: number;
  readonly clock: Clock;
}

/**
 * Runs `work`, and cuts the connection when no answer comes within the limit. A database is silent
 * when its machine hangs or the network loses every packet, and TCP alone notices that after 15
 * minutes.
 */
export async function answered<T>(
  client: Client,
  limit: AnswerLimit,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const { connection } = client as unknown as { readonly connection: Wire };
  let done = false;
  const cut = (): void => {
    if (!done) connection.stream.destroy(new Error(`Connection terminated: no answer for ${limit.withinMs} ms`));
  };
  // After a long turn, the event loop runs its timers before it reads the socket with the answer.
  const cancel = limit.clock.after(limit.withinMs, () => {
    limit.clock.soon(cut);
  });
  try {
    return await work(client);
  } finally {
    done = true;
    cancel();
  }
}

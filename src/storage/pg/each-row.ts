import type { Client } from 'pg';
import { pg } from './driver.ts';

interface Reading {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/**
 * Runs a prepared query, and calls `visit` with each row as it arrives. A result of any size thus
 * takes the memory of one row.
 *
 * @throws the error of the query, or the first one of `visit`, after the last row.
 */
export function eachRow<Row extends unknown[]>(
  client: Client,
  { name, text, values }: Reading,
  visit: (row: Row) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const config = { name, text, values: [...values], rowMode: 'array' };
    const query = new pg.Query<Row>(config);
    let failure: Error | null = null;
    query.on('row', (row) => {
      if (failure !== null) return;
      // An error that is thrown here would end the process, because the socket calls.
      try {
        visit(row);
      } catch (error) {
        failure = error instanceof Error ? error : new Error(String(error));
      }
    });
    query.on('error', reject);
    query.on('end', () => {
      if (failure === null) resolve();
      else reject(failure);
    });
    client.query(query);
  });
}

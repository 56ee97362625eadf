import type { Client, Connection, Submittable } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { FrontendMessages } from './frontend-messages.ts';
import type { Parameter } from './parameter.ts';

export interface Statement {
  /** The name of the prepared statement, in ASCII. Each name always has the same text. */
  readonly name: string;
  readonly text: string;
  readonly parameters: readonly Parameter[];
}

/** The columns of a row, as text. */
export type TextRow = readonly (string | null)[];

/**
 * The most prepared statements per session: each costs the server 10 KB, and each segment has its
 * own.
 */
const preparedMax = 200;

/**
 * Runs statements as one transaction in one round trip, without BEGIN and COMMIT. The Sync commits
 * the statements before it, and an error rolls them back. Each statement has its own snapshot.
 *
 * Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 *
 * @returns the rows of each statement, committed.
 * @throws the first error, of the server or of the connection. After an error of the server, the
 * connection can be used again. A Fault means that the connection ended before anything was sent.
 */
export function inOneRoundTrip(client: Client, statements: readonly Statement[]): Promise<TextRow[][]> {
  return new Promise((resolve, reject) => {
    client.query(new ImplicitTransaction(sessionOf(client), statements, resolve, reject));
  });
}

/** The state of a database session. */
interface Session {
  readonly messages: FrontendMessages;
  /** The names of its prepared statements, the least recently used first. */
  readonly prepared: Set<string>;
}

const sessions = new WeakMap<Client, Session>();

function sessionOf(client: Client): Session {
  let session = sessions.get(client);
  if (session === undefined) {
    session = { messages: new FrontendMessages(), prepared: new Set() };
    sessions.set(client, session);
  }
  return session;
}

/** A query whose messages this file writes; `pg` calls its handlers with the answers. */
class ImplicitTransaction implements Submittable {
  readonly #session: Session;
  readonly #statements: readonly Statement[];
  readonly #resolve: (rows: TextRow[][]) => void;
  readonly #reject: (error: Error) => void;
  readonly #rows: TextRow[][];
  #answered = 0;
  #isSent = false;

  constructor(
    session: Session,
    statements: readonly Statement[],
    resolve: (rows: TextRow[][]) => void,
    reject: (error: Error) => void,
  ) {
    this.#session = session;
    this.#statements = statements;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#rows = statements.map(() => []);
  }

  submit(connection: Connection): void {
    const { messages, prepared } = this.#session;
    // The buffer is free again, because the last transaction was answered.
    messages.begin();
    for (const statement of this.#statements) this.#prepare(statement);
    for (const { name, parameters } of this.#statements) {
      messages.bind(name, parameters);
      messages.execute();
    }
    for (const name of prepared) {
      if (prepared.size <= preparedMax) break;
      prepared.delete(name);
      messages.close(name);
    }
    messages.sync();
    // A connection that is not writable is about to end, and `pg` calls `handleError` then.
    if (!connection.stream.writable) return;
    this.#isSent = true;
    connection.stream.write(messages.written());
  }

  handleDataRow({ fields }: { readonly fields: TextRow }): void {
    this.#rows[this.#answered]!.push(fields);
  }

  handleCommandComplete(): void {
    this.#answered++;
  }

  /**
   * The server skips everything up to the Sync. It is unknown which statements it had prepared
   * before the error, so all of them are prepared again.
   */
  handleError(error: Error): void {
    for (const { name } of this.#statements) this.#session.prepared.delete(name);
    this.#reject(this.#isSent ? error : neverSent(error));
  }

  handleReadyForQuery(): void {
    this.#resolve(this.#rows);
  }

  #prepare({ name, text }: Statement): void {
    const { messages, prepared } = this.#session;
    const known = prepared.delete(name);
    prepared.add(name);
    if (known) return;
    // A transaction that failed after its Parse may have left this statement prepared.
    messages.close(name);
    messages.parse(name, text);
  }
}

/**
 * The connection ended unnoticed since its last use. Nothing was executed, so the outcome is known.
 * Once a byte was sent, the outcome would be unknown.
 */
function neverSent(error: Error): Fault {
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `the connection to the database ended before it was given anything: ${error.message}`,
    error,
  );
}

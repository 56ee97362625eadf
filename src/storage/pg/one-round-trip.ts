import type { Client, Connection, Submittable } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { FrontendMessages } from './frontend-messages.ts';
import type { Parameter } from './parameter.ts';

export interface Statement {
  /** The prepared statement's name, ASCII; the same text each time. */
  readonly name: string;
  readonly text: string;
  readonly parameters: readonly Parameter[];
}

/** The columns of a row, as text. */
export type TextRow = readonly (string | null)[];

/** Prepared statements that a session keeps: each costs the server some ten kilobytes, and every segment has its own. */
const preparedMax = 200;

/**
 * Carries out statements as one transaction in one round trip, with one answer. There is no BEGIN and no COMMIT: statements up to a
 * Sync are a transaction of their own, which the Sync commits before the server says that it is ready, and which an error rolls back.
 * Each statement has a snapshot of its own, as in any transaction at READ COMMITTED.
 *
 * Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING
 *
 * @returns the rows of each statement, committed.
 * @throws the first error, of the server or of the connection; the connection can be used again if it is one of the server. A Fault:
 * the connection had ended before anything was sent.
 */
export function inOneRoundTrip(client: Client, statements: readonly Statement[]): Promise<TextRow[][]> {
  return new Promise((resolve, reject) => {
    client.query(new ImplicitTransaction(sessionOf(client), statements, resolve, reject));
  });
}

/** What is kept for each session of the server. */
interface Session {
  readonly messages: FrontendMessages;
  /** Names of its prepared statements, the one that was not used for the longest time first. */
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

/** What `pg` calls for the answers to a query of ours. */
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
    // Those of the last transaction were read to their end: it was answered.
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
    // One that is not writable any more is about to end, and then the client answers for it.
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

  /** The server passes over everything up to the Sync. What it had prepared by then is not known: it is prepared anew. */
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
    // It may be there: from a transaction that failed behind it.
    messages.close(name);
    messages.parse(name, text);
  }
}

/** The connection has ended unnoticed since it was last used. Nothing was carried out, which is not so once a byte was sent. */
function neverSent(error: Error): Fault {
  return new Fault(
    'DATABASE_UNAVAILABLE',
    `the connection to the database ended before it was given anything: ${error.message}`,
    error,
  );
}

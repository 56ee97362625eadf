import type { Http2Session } from 'node:http2';
import type { Account } from '../../account/account.ts';
import type { OwnedKind } from '../../account/owner.ts';
import type { Caller } from '../../broker/caller.ts';
import { callerOf } from '../edge/caller.ts';

/**
 * Who calls by one HTTP/2 connection, and what the connection holds of each kind. All of it comes
 * back when the connection ends.
 */
export interface ConnectionAccount {
  readonly session: Http2Session;
  readonly caller: Caller;
  readonly streams: OwnedKind;
  readonly bodies: OwnedKind;
  readonly answers: OwnedKind;
  /** Requests in objects, which a handler may keep longer than the connection lasts. */
  readonly decoded: OwnedKind;
}

/** The connections of an edge and their parts of the account. */
export class ConnectionAccounts {
  readonly #account: Account;
  readonly #accounts = new WeakMap<Http2Session, ConnectionAccount>();

  constructor(account: Account) {
    this.#account = account;
  }

  of(session: Http2Session): ConnectionAccount {
    return this.#accounts.get(session) ?? this.#open(session);
  }

  #open(session: Http2Session): ConnectionAccount {
    const owner = this.#account.owner();
    const [streams, bodies, answers] = [owner.kind('streams'), owner.kind('bodies'), owner.kind('answers')];
    const decoded = this.#account.owner().kind('decoded');
    const opened = { session, caller: callerOf(session.socket.remoteAddress), streams, bodies, answers, decoded };
    this.#accounts.set(session, opened);
    session.once('close', () => {
      owner.close();
    });
    return opened;
  }
}

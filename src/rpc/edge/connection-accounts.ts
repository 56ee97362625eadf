import type { Http2Session } from 'node:http2';
import type { Account } from '../../account/account.ts';
import type { OwnedKind } from '../../account/owner.ts';

/** What one HTTP/2 connection holds of each kind. All of it comes back when the connection ends. */
interface ConnectionAccount {
  readonly streams: OwnedKind;
  readonly bodies: OwnedKind;
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
    const opened = { streams: owner.kind('streams'), bodies: owner.kind('bodies') };
    this.#accounts.set(session, opened);
    session.once('close', () => {
      owner.close();
    });
    return opened;
  }
}

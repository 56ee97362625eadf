/** The client of a call. Identity passes through this seam; every caller is anonymous today. */
export interface Caller {
  readonly principal: 'anonymous';
  /** The network address of the client. */
  readonly host: string;
}

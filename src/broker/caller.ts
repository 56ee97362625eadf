/** Who calls. The one seam through which identity passes; everybody is anonymous today. */
export interface Caller {
  readonly principal: 'anonymous';
  /** The network address of the client. */
  readonly host: string;
}

/** An error of TLS, as Node reports it. */
export interface TlsError extends NodeJS.ErrnoException {
  /** The words of OpenSSL. */
  readonly reason?: string
}

/**
 * The name by which tables know an error: its code; ALERT_… for an alert that the peer sent, because the rest of such a code
 * differs between versions of OpenSSL.
 */
export const tlsErrorName = ({ code = '' }: TlsError): string => code.replace(/^ERR_SSL_[A-Z\d/]+_ALERT_/, 'ALERT_')

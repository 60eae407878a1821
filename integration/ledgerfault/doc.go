// Package ledgerfault breaks the name ledger from outside and looks whether it
// holds: processes killed, stores that fail, disks that fill, databases that
// restart, lock holders that freeze, clocks that run back. In every test a
// mirror follows throughout and verifies what it is shown, and at the end every
// name that was acknowledged must be there, once, where it was said to be.
//
// There is nothing here but tests.
package ledgerfault

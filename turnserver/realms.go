package turnserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"

	"github.com/jirani/jirani/turnserver/credential"
)

// jamiName is user, password and realm of Jami's clients that have no other setting.
const jamiName = "ring"

// realmSet is the realms in force. It does not change; a reload makes another one with the same tables.
type realmSet struct {
	first  string
	byName map[string]*credential.Realm
}

// openRealms opens the user tables and reads the files.
func openRealms(ctx context.Context, cfg Config) (*realmSet, error) {
	tables := make(map[string]*credential.Table)
	set := &realmSet{byName: make(map[string]*credential.Realm)}
	for _, r := range cfg.Realms {
		table, err := openTable(ctx, r)
		if err != nil {
			(&realmSet{byName: realmsOf(tables)}).close()
			return nil, fmt.Errorf("turnserver: realm %s: %w", r.Name, err)
		}
		if table != nil {
			tables[r.Name] = table
		}
	}
	set.byName = realmsOf(tables)
	full, err := set.reread(cfg)
	if err != nil {
		set.close()
		return nil, err
	}
	return full, nil
}

func realmsOf(tables map[string]*credential.Table) map[string]*credential.Realm {
	out := make(map[string]*credential.Realm)
	for name, t := range tables {
		out[name] = &credential.Realm{Name: name, Table: t}
	}
	return out
}

func openTable(ctx context.Context, r RealmConfig) (*credential.Table, error) {
	switch {
	case r.SQLite != "":
		return credential.OpenSQLite(ctx, r.SQLite)
	case r.PostgresURLFile != "":
		url, err := r.PostgresURLFile.Read()
		if err != nil {
			return nil, err
		}
		return credential.OpenPostgres(ctx, url)
	}
	return nil, nil
}

// reread reads the files again and keeps the tables.
func (set *realmSet) reread(cfg Config) (*realmSet, error) {
	out := &realmSet{first: cfg.Realms[0].Name, byName: make(map[string]*credential.Realm)}
	for _, r := range cfg.Realms {
		realm := &credential.Realm{Name: r.Name}
		if old := set.byName[r.Name]; old != nil {
			realm.Table = old.Table
		}
		if err := readRealm(realm, r); err != nil {
			return nil, fmt.Errorf("turnserver: realm %s: %w", r.Name, err)
		}
		if r.Name == out.first && cfg.auto(cfg.JamiUser) {
			realm.Users = maps.Clone(realm.Users)
			if realm.Users == nil {
				realm.Users = make(credential.Users)
			}
			realm.Users[jamiName] = credential.LongTermKey(jamiName, r.Name, jamiName)
		}
		out.byName[r.Name] = realm
	}
	return out, nil
}

func readRealm(realm *credential.Realm, r RealmConfig) error {
	if r.UsersFile != "" {
		f, err := os.Open(string(r.UsersFile))
		if err != nil {
			return err
		}
		defer f.Close()
		if realm.Users, err = credential.ParseUsers(f, r.Name); err != nil {
			return fmt.Errorf("%s: %w", r.UsersFile, err)
		}
	}
	for _, file := range r.SharedSecrets {
		secret, err := file.Read()
		if err != nil {
			return err
		}
		if secret == "" {
			return fmt.Errorf("%s: a shared secret must not be empty", file)
		}
		realm.Secrets = append(realm.Secrets, secret)
	}
	return nil
}

func (set *realmSet) close() {
	for _, r := range set.byName {
		if r.Table != nil {
			r.Table.Close()
		}
	}
}

func (set *realmSet) ping(ctx context.Context) error {
	var errs []error
	for _, r := range set.byName {
		if r.Table != nil {
			if err := r.Table.Ping(ctx); err != nil {
				errs = append(errs, fmt.Errorf("realm %s: %w", r.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// OpenUserTable opens the user database of a realm, or of the first one if realm is "", and returns the realm's name. The caller closes it.
func OpenUserTable(ctx context.Context, cfg Config, realm string) (*credential.Table, string, error) {
	for _, r := range cfg.Realms {
		if realm != "" && r.Name != realm {
			continue
		}
		table, err := openTable(ctx, r)
		if err == nil && table == nil {
			err = fmt.Errorf("turnserver: realm %s has no database", r.Name)
		}
		return table, r.Name, err
	}
	return nil, "", fmt.Errorf("turnserver: no realm %q in the configuration", realm)
}

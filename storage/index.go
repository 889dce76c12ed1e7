// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"

	"github.com/part164/part164/crypto"
	"github.com/part164/part164/minimize"
)

// An indexRow is one search token of one record. Tokens are keyed hashes;
// equal values have equal tokens, so the table tells how often a value occurs.
type indexRow struct {
	TenantID    string `gorm:"primaryKey;size:64;uniqueIndex:phi_index_unique,priority:1;index:phi_index_record,priority:1"`
	Field       string `gorm:"primaryKey;size:60;uniqueIndex:phi_index_unique,priority:2"`
	Token       []byte `gorm:"primaryKey;size:32"`
	RecordID    string `gorm:"primaryKey;size:36;index:phi_index_record,priority:2"`
	SubjectID   string `gorm:"size:36;not null"`
	KeyVersion  uint32 `gorm:"not null"`
	UniqueToken []byte `gorm:"size:32;uniqueIndex:phi_index_unique,priority:3"` // of a unique field; NULL in all other rows
}

func (indexRow) TableName() string { return "phi_index" }

// Kinds of term beside those that a tag names.
const (
	kindSound  = "sound"  // how a word of a name sounds
	kindUnique = "unique" // in the unique_token column only
)

// A term is what one token stands for: a value of one kind of index.
type term struct{ kind, value string }

// A name has as many tokens as the next of these sizes, so that their number
// does not tell its length: minPad, doubled up to maxPad. What is over maxPad
// is not indexed.
const (
	minPad = 8
	maxPad = 512
)

// maxWords is how many different words of a text are indexed.
const maxWords = 1000

// indexTerms are the terms of a field's value, those of names by themselves:
// they are padded. unique is the value that no other record may have, empty
// where any may.
func indexTerms(f *field, plain string) (plainly, named []term, unique string) {
	for _, v := range f.values(plain) {
		exact := f.normal(v)
		if exact == "" {
			continue
		}
		for _, kind := range f.tag.Search {
			switch kind {
			case minimize.SearchExact:
				plainly = append(plainly, term{kind, exact})
			case minimize.SearchYear:
				if year, ok := yearOf(exact); ok {
					plainly = append(plainly, term{kind, year})
				}
			case minimize.SearchWords:
				for _, w := range textWords(v) {
					plainly = append(plainly, term{kind, w})
				}
			case minimize.SearchName:
				named = append(named, nameTerms(v)...)
			}
		}
		if f.tag.Unique {
			unique = exact
		}
	}
	return plainly[:min(len(plainly), maxWords)], named, unique
}

// indexRows are the tokens of a field's value under each live key: a search
// that knows one key only must find them too.
func indexRows(keys []*crypto.IndexKey, r *row, f *field, plain string) []indexRow {
	plainly, named, unique := indexTerms(f, plain)
	var rows []indexRow
	for _, key := range keys {
		tokens := tokensOf(key, f, named)
		if f.named() {
			tokens = pad(tokens)
		}
		tokens = append(tokens, tokensOf(key, f, plainly)...)
		carrier := mathrand.IntN(max(len(tokens), 1)) // any: which row has the unique token says nothing of it
		for i, t := range tokens {
			row := indexRow{TenantID: r.tenant, Field: f.logical, Token: t, RecordID: r.record, SubjectID: r.subject, KeyVersion: key.Version()}
			if i == carrier && unique != "" {
				row.UniqueToken = key.Token(f.logical, kindUnique, unique)
			}
			rows = append(rows, row)
		}
	}
	mathrand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows
}

// tokensOf are the tokens of the terms, each once.
func tokensOf(key *crypto.IndexKey, f *field, terms []term) [][]byte {
	var tokens [][]byte
	seen := make(map[term]bool, len(terms))
	for _, t := range terms {
		if !seen[t] {
			seen[t] = true
			tokens = append(tokens, key.Token(f.logical, t.kind, t.value))
		}
	}
	return tokens
}

// pad adds random tokens up to the next size.
func pad(tokens [][]byte) [][]byte {
	size := minPad
	for size < len(tokens) && size < maxPad {
		size *= 2
	}
	tokens = tokens[:min(len(tokens), size)]
	for len(tokens) < size {
		t := make([]byte, 32)
		_, _ = rand.Read(t) // never fails: crypto/rand
		tokens = append(tokens, t)
	}
	return tokens
}

// index makes the tokens of a field's new value.
func (o *op) index(r *row, f *field, plain []byte) error {
	if !f.indexed() {
		return nil
	}
	if o.indexKeys == nil {
		keys, err := o.tx.keys.IndexingKeys(o.ctx, r.tenant)
		if err != nil {
			return fmt.Errorf("storage: index %s: %w", f.logical, err)
		}
		o.indexKeys = keys
	}
	o.tokens[r] = append(o.tokens[r], indexRows(o.indexKeys, r, f, string(plain))...)
	if f.former != nil && f.tag.Unique {
		if _, _, unique := indexTerms(f, string(plain)); unique != "" {
			for _, key := range o.indexKeys {
				o.formerly = append(o.formerly, indexRow{TenantID: r.tenant, Field: f.former.logical, RecordID: r.record, UniqueToken: key.Token(f.former.logical, kindUnique, unique)})
			}
		}
	}
	return nil
}

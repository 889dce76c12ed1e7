// SPDX-License-Identifier: Apache-2.0

package access

// The purposes of use: HL7 v3 ActReason 4.0.0, value set PurposeOfUse 3.1.0, all
// of it (terminology.hl7.org, CC0).
const (
	Treatment                Purpose = "TREAT"   // treatment; 45 CFR 164.501
	ClinicalTrial            Purpose = "CLINTRL" // clinical trial
	CareCoordination         Purpose = "COC"     // coordination of care
	EmergencyTreatment       Purpose = "ETREAT"  // emergency treatment
	BreakGlass               Purpose = "BTG"     // break the glass; emergency access, 45 CFR 164.312(a)(2)(ii)
	EmergencyRoom            Purpose = "ERTREAT" // emergency room treatment
	PopulationHealth         Purpose = "POPHLTH" // population health
	TreatmentDecisionSupport Purpose = "TREATDS" // decision support assisted treatment decision

	Payment                  Purpose = "HPAYMT"   // healthcare payment; 45 CFR 164.501
	ClaimAttachment          Purpose = "CLMATTCH" // claim attachment
	CoverageAuthorization    Purpose = "COVAUTH"  // coverage authorization
	Coverage                 Purpose = "COVERAGE" // coverage under policy or program
	EligibilityDetermination Purpose = "ELIGDTRM" // eligibility determination
	EligibilityVerification  Purpose = "ELIGVER"  // eligibility verification
	Enrollment               Purpose = "ENROLLM"  // enrollment
	MilitaryDischarge        Purpose = "MILDCRG"  // military discharge
	RemittanceAdvice         Purpose = "REMITADV" // remittance advice
	PaymentDecisionSupport   Purpose = "PMTDS"    // decision support assisted payment decision

	Operations              Purpose = "HOPERAT"    // healthcare operations; 45 CFR 164.501
	CareManagement          Purpose = "CAREMGT"    // care management
	Donation                Purpose = "DONAT"      // donation
	FraudDetection          Purpose = "FRAUD"      // fraud
	Government              Purpose = "GOV"        // government
	Accreditation           Purpose = "HACCRED"    // health accreditation
	Compliance              Purpose = "HCOMPL"     // health compliance; review of access, 45 CFR 164.308(a)(1)(ii)(D)
	Decedent                Purpose = "HDECD"      // decedent
	Directory               Purpose = "HDIRECT"    // directory
	DeliveryManagement      Purpose = "HDM"        // healthcare delivery management
	Legal                   Purpose = "HLEGAL"     // legal
	OutcomeMeasure          Purpose = "HOUTCOMS"   // health outcome measure
	ProgramReporting        Purpose = "HPRGRP"     // health program reporting
	QualityImprovement      Purpose = "HQUALIMP"   // health quality improvement
	SystemAdmin             Purpose = "HSYSADMIN"  // health system administration, of the systems themselves
	Labeling                Purpose = "LABELING"   // labeling
	MetadataManagement      Purpose = "METAMGT"    // metadata management
	MemberAdmin             Purpose = "MEMADMIN"   // member administration
	MilitaryCommand         Purpose = "MILCDM"     // military command
	PatientAdmin            Purpose = "PATADMIN"   // patient administration
	PatientSafety           Purpose = "PATSFTY"    // patient safety
	PerformanceMeasure      Purpose = "PERFMSR"    // performance measure
	RecordManagement        Purpose = "RECORDMGT"  // records management
	SystemDevelopment       Purpose = "SYSDEV"     // system development
	TestHealthData          Purpose = "HTEST"      // test health data
	Training                Purpose = "TRAIN"      // training
	MachineLearningTraining Purpose = "MLTRAINING" // machine learning training

	PatientRequest  Purpose = "PATRQT"  // patient requested; 45 CFR 164.524
	FamilyRequest   Purpose = "FAMRQT"  // family requested
	PowerOfAttorney Purpose = "PWATRNY" // power of attorney
	SupportNetwork  Purpose = "SUPNWK"  // support network

	PublicHealth Purpose = "PUBHLTH"  // public health; 45 CFR 164.512(b)
	Disaster     Purpose = "DISASTER" // disaster
	Threat       Purpose = "THREAT"   // threat

	Research                 Purpose = "HRESCH"      // healthcare research; 45 CFR 164.512(i)
	BiomedicalResearch       Purpose = "BIORCH"      // biomedical research
	ClinicalTrialResearch    Purpose = "CLINTRCH"    // clinical trial research
	ClinicalTrialWithoutCare Purpose = "CLINTRCHNPC" // clinical trial research without patient care
	ClinicalTrialWithCare    Purpose = "CLINTRCHPC"  // clinical trial research with patient care
	PreclinicalTrialResearch Purpose = "PRECLINTRCH" // preclinical trial research
	DiseaseSpecificResearch  Purpose = "DSRCH"       // disease specific healthcare research
	AncestryResearch         Purpose = "POARCH"      // population origins or ancestry healthcare research
	TranslationalResearch    Purpose = "TRANSRCH"    // translational healthcare research

	Marketing Purpose = "HMARKT" // healthcare marketing; needs an authorization, 45 CFR 164.508(a)(3)
)

// Purposes returns every purpose above, each after the one that it is a kind of.
func Purposes() []Purpose {
	return []Purpose{
		Treatment, ClinicalTrial, CareCoordination, EmergencyTreatment, BreakGlass, EmergencyRoom, PopulationHealth,
		TreatmentDecisionSupport, Payment, ClaimAttachment, CoverageAuthorization, Coverage, EligibilityDetermination,
		EligibilityVerification, Enrollment, MilitaryDischarge, RemittanceAdvice, PaymentDecisionSupport, Operations,
		CareManagement, Donation, FraudDetection, Government, Accreditation, Compliance, Decedent, Directory,
		DeliveryManagement, Legal, OutcomeMeasure, ProgramReporting, QualityImprovement, SystemAdmin, Labeling,
		MetadataManagement, MemberAdmin, MilitaryCommand, PatientAdmin, PatientSafety, PerformanceMeasure,
		RecordManagement, SystemDevelopment, TestHealthData, Training, MachineLearningTraining, PatientRequest,
		FamilyRequest, PowerOfAttorney, SupportNetwork, PublicHealth, Disaster, Threat, Research, BiomedicalResearch,
		ClinicalTrialResearch, ClinicalTrialWithoutCare, ClinicalTrialWithCare, PreclinicalTrialResearch,
		DiseaseSpecificResearch, AncestryResearch, TranslationalResearch, Marketing,
	}
}

// parent returns the purpose that p is a kind of; ok is false for a code that
// is not in the value set.
func (p Purpose) parent() (parent Purpose, ok bool) {
	switch p {
	case Treatment, Payment, Operations, PatientRequest, PublicHealth, Research, Marketing:
		return "", true
	case ClinicalTrial, CareCoordination, EmergencyTreatment, PopulationHealth, TreatmentDecisionSupport:
		return Treatment, true
	case BreakGlass, EmergencyRoom:
		return EmergencyTreatment, true
	case ClaimAttachment, CoverageAuthorization, Coverage, RemittanceAdvice, PaymentDecisionSupport:
		return Payment, true
	case EligibilityDetermination, EligibilityVerification, Enrollment, MilitaryDischarge:
		return Coverage, true
	case CareManagement, Donation, FraudDetection, Government, Accreditation, Compliance, Decedent, Directory,
		DeliveryManagement, Legal, OutcomeMeasure, ProgramReporting, QualityImprovement, SystemAdmin, MemberAdmin,
		MilitaryCommand, PatientAdmin, PatientSafety, PerformanceMeasure, RecordManagement, SystemDevelopment, Training,
		MachineLearningTraining:
		return Operations, true
	case Labeling, MetadataManagement:
		return SystemAdmin, true
	case TestHealthData:
		return SystemDevelopment, true
	case FamilyRequest, PowerOfAttorney, SupportNetwork:
		return PatientRequest, true
	case Disaster, Threat:
		return PublicHealth, true
	case BiomedicalResearch, ClinicalTrialResearch, DiseaseSpecificResearch, AncestryResearch, TranslationalResearch:
		return Research, true
	case ClinicalTrialWithoutCare, ClinicalTrialWithCare, PreclinicalTrialResearch:
		return ClinicalTrialResearch, true
	}
	return "", false
}

// Display returns what HL7 calls the purpose, in words; of what is none, the code
// itself.
func (p Purpose) Display() string {
	switch p {
	case Treatment:
		return "treatment"
	case ClinicalTrial:
		return "clinical trial"
	case CareCoordination:
		return "coordination of care"
	case EmergencyTreatment:
		return "emergency treatment"
	case BreakGlass:
		return "emergency access (break the glass)"
	case EmergencyRoom:
		return "emergency room treatment"
	case PopulationHealth:
		return "population health"
	case TreatmentDecisionSupport:
		return "decision support assisted treatment decision"
	case Payment:
		return "healthcare payment"
	case ClaimAttachment:
		return "claim attachment"
	case CoverageAuthorization:
		return "coverage authorization"
	case Coverage:
		return "coverage under policy or program"
	case EligibilityDetermination:
		return "eligibility determination"
	case EligibilityVerification:
		return "eligibility verification"
	case Enrollment:
		return "enrollment"
	case MilitaryDischarge:
		return "military discharge"
	case RemittanceAdvice:
		return "remittance advice"
	case PaymentDecisionSupport:
		return "decision support assisted payment decision"
	case Operations:
		return "healthcare operations"
	case CareManagement:
		return "care management"
	case Donation:
		return "donation"
	case FraudDetection:
		return "fraud"
	case Government:
		return "government"
	case Accreditation:
		return "health accreditation"
	case Compliance:
		return "health compliance"
	case Decedent:
		return "decedent"
	case Directory:
		return "directory"
	case DeliveryManagement:
		return "healthcare delivery management"
	case Legal:
		return "legal"
	case OutcomeMeasure:
		return "health outcome measure"
	case ProgramReporting:
		return "health program reporting"
	case QualityImprovement:
		return "health quality improvement"
	case SystemAdmin:
		return "health system administration"
	case Labeling:
		return "labeling"
	case MetadataManagement:
		return "metadata management"
	case MemberAdmin:
		return "member administration"
	case MilitaryCommand:
		return "military command"
	case PatientAdmin:
		return "patient administration"
	case PatientSafety:
		return "patient safety"
	case PerformanceMeasure:
		return "performance measure"
	case RecordManagement:
		return "records management"
	case SystemDevelopment:
		return "system development"
	case TestHealthData:
		return "test health data"
	case Training:
		return "training"
	case MachineLearningTraining:
		return "machine learning training"
	case PatientRequest:
		return "patient requested"
	case FamilyRequest:
		return "family requested"
	case PowerOfAttorney:
		return "power of attorney"
	case SupportNetwork:
		return "support network"
	case PublicHealth:
		return "public health"
	case Disaster:
		return "disaster"
	case Threat:
		return "threat"
	case Research:
		return "healthcare research"
	case BiomedicalResearch:
		return "biomedical research"
	case ClinicalTrialResearch:
		return "clinical trial research"
	case ClinicalTrialWithoutCare:
		return "clinical trial research without patient care"
	case ClinicalTrialWithCare:
		return "clinical trial research with patient care"
	case PreclinicalTrialResearch:
		return "preclinical trial research"
	case DiseaseSpecificResearch:
		return "disease specific healthcare research"
	case AncestryResearch:
		return "population origins or ancestry healthcare research"
	case TranslationalResearch:
		return "translational healthcare research"
	case Marketing:
		return "healthcare marketing"
	}
	return string(p)
}

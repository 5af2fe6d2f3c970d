package rpm

// Tags of the main header, by rpm's rpmtag.h. Only those that are read here.
const (
	tagHeaderImmutable = 63

	tagName            = 1000
	tagVersion         = 1001
	tagRelease         = 1002
	tagEpoch           = 1003
	tagSummary         = 1004
	tagDescription     = 1005
	tagBuildTime       = 1006
	tagBuildHost       = 1007
	tagSize            = 1009
	tagDistribution    = 1010
	tagVendor          = 1011
	tagLicense         = 1014
	tagPackager        = 1015
	tagGroup           = 1016
	tagURL             = 1020
	tagArch            = 1022
	tagFileSizes       = 1028
	tagFileModes       = 1030
	tagFileRdevs       = 1033
	tagFileMTimes      = 1034
	tagFileDigests     = 1035
	tagFileLinkTos     = 1036
	tagFileFlags       = 1037
	tagFileUserName    = 1039
	tagFileGroupName   = 1040
	tagSourceRPM       = 1044
	tagArchiveSize     = 1046
	tagProvideName     = 1047
	tagRequireFlags    = 1048
	tagRequireName     = 1049
	tagRequireVersion  = 1050
	tagNoSource        = 1051
	tagNoPatch         = 1052
	tagConflictFlags   = 1053
	tagConflictName    = 1054
	tagConflictVersion = 1055
	tagChangelogTime   = 1080
	tagChangelogName   = 1081
	tagChangelogText   = 1082
	tagObsoleteName    = 1090
	tagFileInodes      = 1096
	tagProvideFlags    = 1112
	tagProvideVersion  = 1113
	tagObsoleteFlags   = 1114
	tagObsoleteVersion = 1115
	tagDirIndexes      = 1116
	tagBasenames       = 1117
	tagDirnames        = 1118
	tagPayloadFormat   = 1124
	tagPayloadCompr    = 1125

	tagLongFileSizes  = 5008
	tagLongSize       = 5009
	tagFileCaps       = 5010
	tagFileDigestAlgo = 5011
	tagRecommendName  = 5046
	tagSuggestName    = 5049
	tagSupplementName = 5052
	tagEnhanceName    = 5055
	tagPayloadDigest  = 5092
	tagPayloadDigAlgo = 5093
)

// Tags of the signature header.
const (
	sigRegion          = 62
	sigDSA             = 267 // over the main header; EdDSA too
	sigRSA             = 268
	sigSHA256          = 273
	sigLongSize        = 270
	sigLongArchiveSize = 271
	sigOpenPGP         = 278 // rpm 6: array of base64
	sigReserved        = 999
	sigSize            = 1000 // of main header and payload
	sigPGP             = 1002 // over header and payload, old
	sigGPG             = 1005
	sigPGP5            = 1006
	sigPayloadSize     = 1007 // of the payload before compression
	sigReservedSpace   = 1008
)

// signatureTags are the tags that hold an OpenPGP signature.
var signatureTags = []uint32{sigDSA, sigRSA, sigOpenPGP, sigPGP, sigGPG, sigPGP5}

type depTags struct{ name, version, flags uint32 }

var (
	provideTags    = depTags{tagProvideName, tagProvideVersion, tagProvideFlags}
	requireTags    = depTags{tagRequireName, tagRequireVersion, tagRequireFlags}
	conflictTags   = depTags{tagConflictName, tagConflictVersion, tagConflictFlags}
	obsoleteTags   = depTags{tagObsoleteName, tagObsoleteVersion, tagObsoleteFlags}
	recommendTags  = depTags{tagRecommendName, tagRecommendName + 1, tagRecommendName + 2}
	suggestTags    = depTags{tagSuggestName, tagSuggestName + 1, tagSuggestName + 2}
	supplementTags = depTags{tagSupplementName, tagSupplementName + 1, tagSupplementName + 2}
	enhanceTags    = depTags{tagEnhanceName, tagEnhanceName + 1, tagEnhanceName + 2}
)

// scriptTags are the scriptlets in the order in which rpm runs them over a
// package's life; body, interpreter and flags are three tags.
var scriptTags = []struct {
	kind              string
	body, prog, flags uint32
}{
	{"pretrans", 1151, 1153, 5024},
	{"pre", 1023, 1085, 5020},
	{"post", 1024, 1086, 5021},
	{"posttrans", 1152, 1154, 5025},
	{"preuntrans", 5104, 5106, 5108},
	{"preun", 1025, 1087, 5022},
	{"postun", 1026, 1088, 5023},
	{"postuntrans", 5105, 5107, 5109},
	{"verify", 1079, 1091, 5026},
}

// triggerTags are the three families of triggers. index says for each name
// which script it belongs to; priority is 0 for plain triggers.
var triggerTags = []struct {
	prefix                                      string
	scripts, prog, scriptFlags                  uint32
	name, version, flags, index, scriptPriority uint32
}{
	{"", 1065, 1092, 5027, 1066, 1067, 1068, 1069, 0},
	{"file", 5066, 5067, 5068, 5069, 5071, 5072, 5070, 5084},
	{"transfile", 5076, 5077, 5078, 5079, 5081, 5082, 5080, 5085},
}

// Sense bits that tell the kind of a trigger.
const (
	senseTriggerIn     = 1 << 16
	senseTriggerUn     = 1 << 17
	senseTriggerPostun = 1 << 18
	senseTriggerPrein  = 1 << 25
)
